-- Take or keep the lead of a duty. ARGV: now (unused), duty, who, lease ms
-- Returns the epoch (grows with each new leader) while `who` leads, else 0.
local key = 'leader:' .. ARGV[2]
local holder = redis.call('HGET', key, 'who')
if holder and holder ~= ARGV[3] then return 0 end
if not holder then
  redis.call('HSET', key, 'who', ARGV[3], 'epoch', redis.call('INCR', 'epoch:' .. ARGV[2]),
             'since_s', redis.call('TIME')[1])
end
redis.call('PEXPIRE', key, ARGV[4])
return tonumber(redis.call('HGET', key, 'epoch'))
