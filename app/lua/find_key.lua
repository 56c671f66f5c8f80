-- What an API key stands for; note that it was used.
-- KEYS  apikey:<hash>
-- ARGV  how old the noted time may be (ms) before it is written anew: each write goes to disk
-- Returns the key's record, and the account's id, role and disabled_ms of this moment; or nothing.
local record = redis.call('HGETALL', KEYS[1])
if #record == 0 then
  return false
end
local username, used_ms = unpack(redis.call('HMGET', KEYS[1], 'username', 'used_ms'))
local id, role, disabled = unpack(redis.call('HMGET', 'account:' .. username, 'id', 'role', 'disabled_ms'))
local now = redis.call('TIME')
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
if now_ms - (used_ms or 0) >= tonumber(ARGV[1]) then
  redis.call('HSET', KEYS[1], 'used_ms', now_ms)
end
return {record, id, role, disabled}
