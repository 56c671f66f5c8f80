-- Change what a conversation is called, or how the model is to behave in it.
-- KEYS: conversation
-- ARGV: the uid that it must have or '' for any, '1' where it must have no title yet, then field, value, ...
-- Returns 1, or 0 where it is not such a conversation.
local now = redis.call('HMGET', KEYS[1], 'uid', 'title')
if not now[1] or ARGV[1] ~= '' and now[1] ~= ARGV[1] or ARGV[2] == '1' and now[2] ~= '' then return 0 end
for i = 3, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
return 1
