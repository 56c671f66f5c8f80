-- Begin a session for an account, if it is still as it was when its password was checked.
-- KEYS  account:<username>, session:<sid>, sessions:<account id>
-- ARGV  sid, account id, version, hash of the family's secret, hash of the refresh token's secret, life (ms)
-- Returns the account's role, or nothing.
local id, version, role, disabled = unpack(redis.call('HMGET', KEYS[1], 'id', 'version', 'role', 'disabled_ms'))
if id ~= ARGV[2] or (version or '0') ~= ARGV[3] or disabled then
  return false
end
local now = redis.call('TIME')
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
local username = string.sub(KEYS[1], #'account:' + 1)
redis.call('HSET', KEYS[2], 'account', id, 'username', username, 'family', ARGV[4], 'current', ARGV[5],
  'begun_ms', now_ms, 'turned_ms', now_ms)
redis.call('PEXPIRE', KEYS[2], ARGV[6])
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now_ms)
redis.call('ZADD', KEYS[3], now_ms + ARGV[6], ARGV[1])
redis.call('PEXPIRE', KEYS[3], ARGV[6])
return role
