-- Change an account, or remove it; tell the gateways to look again at what they believe of it.
-- KEYS  account:<username>
-- ARGV  'keep' its sessions, 'end' them, or 'remove' the account with them; then name and value of fields to set, where
--       an empty value deletes
-- Returns whether there is such an account.
local id, password = unpack(redis.call('HMGET', KEYS[1], 'id', 'password'))
if not password then
  return 0
end
if ARGV[1] ~= 'keep' then
  local sessions = 'sessions:' .. id
  for _, sid in ipairs(redis.call('ZRANGE', sessions, 0, -1)) do
    redis.call('DEL', 'session:' .. sid)
  end
  redis.call('DEL', sessions)
end
if ARGV[1] == 'remove' then
  redis.call('DEL', KEYS[1])
  redis.call('SREM', 'accounts', string.sub(KEYS[1], #'account:' + 1))
else
  for i = 2, #ARGV, 2 do
    if ARGV[i + 1] == '' then
      redis.call('HDEL', KEYS[1], ARGV[i])
    else
      redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
    end
  end
  redis.call('HINCRBY', KEYS[1], 'version', 1) -- a login that is under way was checked against what is no more
end
redis.call('PUBLISH', 'revoked', 'account:' .. id)
return 1
