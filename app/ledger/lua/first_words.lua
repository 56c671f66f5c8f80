-- When jobs said their first words. ARGV: now (unused), then ids
-- Returns for each the ms from its acceptance, or -1 where it has said nothing, or is not there.
local found = {}
for i = 2, #ARGV do
  local job = redis.call('HMGET', 'job:' .. ARGV[i], 'first_ms', 'created_ms')
  found[#found + 1] = job[1] and tonumber(job[1]) - tonumber(job[2]) or -1
end
return found
