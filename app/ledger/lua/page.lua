-- List a tenant's own jobs, newest first, without input, result and error, which may be large.
-- ARGV: now (unused), tenant, state ('' for any), when and which the last one listed was ('' and '' to begin), most to
--       return, most to look at
-- Returns {whether there may be more, when and which the last one looked at was, then id and record of each}.
local FIELDS = {'service', 'task', 'tenant', 'state', 'lane', 'route', 'attempt', 'created_ms', 'started_ms', 'finished_ms',
  'deadline_ms', 'server', 'processor', 'worker', 'usage', 'decision'}
local key, state, last_ms, last, most = 'jobs:' .. ARGV[2], ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])
local looked, found = 0, {}
local from, skipped = last_ms == '' and '+inf' or last_ms, 0
while looked < tonumber(ARGV[7]) do
  local ids = redis.call('ZREVRANGEBYSCORE', key, from, '-inf', 'WITHSCORES', 'LIMIT', skipped, 100)
  for i = 1, #ids, 2 do
    -- of those accepted in the same millisecond, the ones up to the last listed have been listed
    if ids[i + 1] ~= last_ms or ids[i] < last then
      looked = looked + 1
      last_ms, last = ids[i + 1], ids[i]
      local record = redis.call('HMGET', 'job:' .. ids[i], unpack(FIELDS))
      if state == '' or record[4] == state then
        local fields = {}
        for j, value in ipairs(record) do
          if value then
            fields[#fields + 1] = FIELDS[j]
            fields[#fields + 1] = value
          end
        end
        found[#found + 1] = {ids[i], fields}
        if #found == most then return {1, last_ms, last, found} end
      end
    end
  end
  if #ids < 200 then return {0, last_ms, last, found} end
  skipped = skipped + 100
end
return {1, last_ms, last, found}
