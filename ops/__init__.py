"""The operators' tools: bring servers up, audit, manage accounts, measure."""
