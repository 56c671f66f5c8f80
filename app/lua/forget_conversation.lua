-- Forget a conversation with its turns.
-- KEYS: conversation, index of the tenant's conversations, turns
-- ARGV: name, uid: another conversation that has the name by now is left alone
if redis.call('HGET', KEYS[1], 'uid') == ARGV[2] then
  redis.call('DEL', KEYS[1])
  redis.call('ZREM', KEYS[2], ARGV[1])
end
redis.call('UNLINK', KEYS[3])
return 1
