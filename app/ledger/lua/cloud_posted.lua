-- Count messages to the cloud. ARGV: now (unused), how many MNS took, and how many it did not, or nobody knows
if ARGV[2] ~= '0' then count('posts', ARGV[2]) end
if ARGV[3] ~= '0' then count('posts_failed', ARGV[3]) end
return 'OK'
