-- Say what runs in the cloud say, and tell those who listen: in order, whatever the order in which it arrives.
-- ARGV: now, then id, run, attempt, start, end, voice, text for each: the text goes from the start-th character of
--       what the attempt says, reasoning first, up to the end-th
-- Returns 1 for each job that is still the run's and 0 for each that is not (cancelled, expired, taken home).
-- What comes too early is kept until what comes before it is there; what was said already is not said again. When the run
-- says its first word is noted in the job, as we hear of it.
local held, fresh = {}, {}

-- Say text that reaches up to `stop`, where `total` characters are said; return how many are said then.
local function add(id, attempt, total, stop, voice, text)
  if tonumber(stop) <= total then return total end
  redis.call('XADD', 'said:' .. id, attempt .. '-' .. stop, voice, text)
  fresh[#fresh + 1] = {id, attempt, stop, voice, text}
  return tonumber(stop)
end

-- Keep text for later, the longest of each start.
local function put_by(id, start, stop, voice, text)
  local there = redis.call('HGET', 'unsaid:' .. id, start)
  if there and tonumber(cmsgpack.unpack(there)[1]) >= tonumber(stop) then return end
  redis.call('HSET', 'unsaid:' .. id, start, cmsgpack.pack({stop, voice, text}))
end

-- Say what was kept, as far as nothing is missing before it.
local function catch_up(id, attempt, total)
  local starts = redis.call('HKEYS', 'unsaid:' .. id)
  table.sort(starts, function(a, b) return tonumber(a) < tonumber(b) end)
  for _, start in ipairs(starts) do
    if tonumber(start) > total then return end
    local stop, voice, text = unpack(cmsgpack.unpack(redis.call('HGET', 'unsaid:' .. id, start)))
    redis.call('HDEL', 'unsaid:' .. id, start)
    total = add(id, attempt, total, stop, voice, text)
  end
end

for i = 2, #ARGV, 7 do
  local id, attempt, start = ARGV[i], ARGV[i + 2], ARGV[i + 3]
  local job = redis.call('HMGET', 'job:' .. id, 'state', 'owner', 'attempt', 'route', 'first_ms', 'parent')
  if job[1] == 'running' and job[2] == ARGV[i + 1] and job[3] == attempt and job[4] == 'cloud' then
    held[#held + 1] = 1
    local total = tonumber(said_by(id) or 0)
    if tonumber(start) > total then
      put_by(id, start, ARGV[i + 4], ARGV[i + 5], ARGV[i + 6])
    else
      if not job[5] and ARGV[i + 6] ~= '' then note_first(id, job[6], now_ms()) end
      catch_up(id, attempt, add(id, attempt, total, ARGV[i + 4], ARGV[i + 5], ARGV[i + 6]))
    end
  else
    held[#held + 1] = 0
  end
end
if fresh[1] then redis.call('PUBLISH', 'said', cmsgpack.pack(fresh)) end
return held
