-- Bring home jobs that were sent to the cloud and are not begun there: named ones, and those sent last, which the cloud
-- would begin last. ARGV: now, fresh name of the call, how many of those sent last, ms to remember the call, why (JSON), then
-- id and ticket of each: it comes home only if it is still under that; '' for any
-- Returns the ids that came home; a repeated call gets the same answer.
local now = now_ms()
local call = 'recalled:' .. ARGV[2]
local home = redis.call('LRANGE', call, 0, -1)
if home[1] then return home end

local function recall(id, ticket)
  if not redis.call('ZSCORE', 'cloud', id) then return end
  if ticket ~= '' and redis.call('HGET', 'job:' .. id, 'ticket') ~= ticket then return end
  bring_home(id, now, 'recalled', ARGV[5])
  redis.call('RPUSH', call, id)
  home[#home + 1] = id
end
for i = 6, #ARGV, 2 do recall(ARGV[i], ARGV[i + 1]) end
if tonumber(ARGV[3]) > 0 then
  for _, id in ipairs(redis.call('ZREVRANGE', 'cloud', 0, tonumber(ARGV[3]) - 1)) do recall(id, '') end
end
redis.call('PEXPIRE', call, ARGV[4])
return home
