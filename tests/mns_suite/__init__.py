"""What is asked of an MNS, through the unmodified SDK and by hand: of the local server, or of the service that the
environment names (`client.the_service`)."""
