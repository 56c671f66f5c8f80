-- A message to a hook of alerts is delivered, or given up: the hook's position moves past it.
-- KEYS  alerts:hook:<name>, alerts:delivery, alerts:told:<name>
-- ARGV  its last entry, now (ms), the hook's index, sent | given_up | '' (there was nothing to send), the error or '',
--       then the words that the hook has been told with it
-- Returns 1, or 0 where the message is not under way any more.
local SENDINGS_KEPT, TOLD_KEPT, TOLD_KEPT_MS = 6, 10000, 172800000
local hook = redis.call('HMGET', KEYS[1], 'last', 'told')
if hook[1] ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'position', ARGV[1], 'moved', 1)
redis.call('HDEL', KEYS[1], 'last', 'packed', 'attempts', 'next')
if ARGV[4] == '' then return 1 end

redis.call('HINCRBY', KEYS[2], ARGV[3] .. ' ' .. ARGV[4], 1)
if ARGV[4] == 'given_up' then
  redis.call('HSET', KEYS[2], ARGV[3] .. ' error', ARGV[5], ARGV[3] .. ' error_ms', ARGV[2])
  return 1
end
redis.call('HDEL', KEYS[2], ARGV[3] .. ' error', ARGV[3] .. ' error_ms')
local told = {}
for at in string.gmatch((hook[2] or '') .. ',' .. ARGV[2], '%d+') do told[#told + 1] = at end
redis.call('HSET', KEYS[1], 'told', table.concat(told, ',', math.max(#told - SENDINGS_KEPT + 1, 1)))
for i = 6, #ARGV do redis.call('ZADD', KEYS[3], ARGV[2], ARGV[i]) end
redis.call('HINCRBY', KEYS[2], ARGV[3] .. ' events', #ARGV - 5)
redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -1 - TOLD_KEPT)
redis.call('PEXPIRE', KEYS[3], TOLD_KEPT_MS)
return 1
