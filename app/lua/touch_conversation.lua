-- Note that a conversation is used now; begin it where there is none and a uid is given for that.
-- KEYS: conversation, index of the tenant's conversations
-- ARGV: name, uid of a new one or '', its title, its system prompt
-- Returns its uid, or nil where there is no such conversation.
local t = redis.call('TIME')
local now = string.format('%d', t[1] * 1000 + math.floor(t[2] / 1000))
local uid = redis.call('HGET', KEYS[1], 'uid')
if not uid then
  if ARGV[2] == '' then return false end
  uid = ARGV[2]
  redis.call('HSET', KEYS[1], 'uid', uid, 'title', ARGV[3], 'system', ARGV[4], 'created_ms', now)
end
redis.call('ZADD', KEYS[2], now, ARGV[1])
return uid
