-- Exchange a session's refresh token for its successor; end the session when the token was used before.
-- KEYS  session:<sid>
-- ARGV  sid, hash of the family's secret, hash of the token's secret, hash of the successor's secret, life (ms),
--       how long the last token is honoured while its successor is unused (ms)
-- Returns {'turned', account id, username, role}, {'reused'}, or nothing for what is no token of a session.
local owner, username, family, current, previous, turned_ms = unpack(redis.call('HMGET', KEYS[1],
  'account', 'username', 'family', 'current', 'previous', 'turned_ms'))
if not owner or family ~= ARGV[2] then
  return false
end
local sessions = 'sessions:' .. owner
local function ended(answer)
  redis.call('DEL', KEYS[1])
  redis.call('ZREM', sessions, ARGV[1])
  redis.call('PUBLISH', 'revoked', 'session:' .. ARGV[1])
  return answer
end
local id, role, disabled = unpack(redis.call('HMGET', 'account:' .. username, 'id', 'role', 'disabled_ms'))
if id ~= owner or disabled then
  return ended(false)
end
local now = redis.call('TIME')
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
if ARGV[3] == current then
  redis.call('HSET', KEYS[1], 'current', ARGV[4], 'previous', current, 'turned_ms', now_ms)
elseif ARGV[3] == previous and now_ms - turned_ms <= tonumber(ARGV[6]) then
  -- the reply was lost, or this call is sent twice: a new successor takes the place of the unused one. `turned_ms` stays,
  -- or the last token would be honoured for ever
  redis.call('HSET', KEYS[1], 'current', ARGV[4])
else
  return ended({'reused'})
end
redis.call('PEXPIRE', KEYS[1], ARGV[5])
redis.call('ZADD', sessions, now_ms + ARGV[5], ARGV[1])
redis.call('PEXPIRE', sessions, ARGV[5])
return {'turned', owner, username, role}
