-- End a session, for whoever has or had one of its refresh tokens.
-- KEYS  session:<sid>
-- ARGV  sid, hash of the family's secret
-- Returns whether there was one.
local owner, family = unpack(redis.call('HMGET', KEYS[1], 'account', 'family'))
if not owner or family ~= ARGV[2] then
  return 0
end
redis.call('DEL', KEYS[1])
redis.call('ZREM', 'sessions:' .. owner, ARGV[1])
redis.call('PUBLISH', 'revoked', 'session:' .. ARGV[1])
return 1
