-- Whose session it is.
-- KEYS  session:<sid>
-- Returns account id, username and the account's role of this moment, or nothing where the session or its account ended.
local owner, username = unpack(redis.call('HMGET', KEYS[1], 'account', 'username'))
if not owner then
  return false
end
local id, role, disabled = unpack(redis.call('HMGET', 'account:' .. username, 'id', 'role', 'disabled_ms'))
if id ~= owner or disabled then
  return false
end
return {owner, username, role}
