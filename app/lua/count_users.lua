-- Count the tenants that had a request, or had a live job, in the last while.
-- KEYS: users, inflight. ARGV: the while in ms
-- Those that have a live job now are noted, and those that have had neither for so long are forgotten: sending it twice
-- does no harm.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local batch = {}

local function note()
  if batch[1] then redis.call('ZADD', KEYS[1], unpack(batch)) end
  batch = {}
end

for _, tenant in ipairs(redis.call('HKEYS', KEYS[2])) do
  batch[#batch + 1] = now
  batch[#batch + 1] = tenant
  if #batch >= 1000 then note() end
end
note()
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[1]))
return redis.call('ZCARD', KEYS[1])
