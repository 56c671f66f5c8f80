-- Give up the lead of a duty, so that another need not wait for the end of the lease. ARGV: now (unused), duty, who
local key = 'leader:' .. ARGV[2]
if redis.call('HGET', key, 'who') == ARGV[3] then redis.call('DEL', key) end
return 'OK'
