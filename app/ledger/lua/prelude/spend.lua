-- What the cloud costs: jobs sent in a minute, and money in an hour. Both windows slide, the one by seconds and the other by
-- minutes, and a bucket that a window touches counts whole: no minute and no hour ever holds more than was allowed.
--
-- A job that is sent reserves what it may cost at most: field `reserved` of its record, as micros of money, and the prices
-- that they come from. One that leaves the cloud without having been begun there gets it back. The end of a run sets it to
-- what was used; a run that gives its job up, falls silent or is stopped has cost it all, as nobody can say what it used.
-- That a job was sent counts in the minute, also when it is soon home again: its message went out.

local MINUTE_S, HOUR_MIN = 60, 60
local SPEND_KEPT_MS = 3720000  -- an hour, and the buckets at its ends

-- Jobs of the last minute, and micros of the last hour. What is older is forgotten, and so is what lies as far ahead, as a
-- clock that went far back leaves it: it would count until the clock is there again.
local function spent(now)
  local jobs, micros, old = 0, 0, {}
  local bucket = {s = math.floor(now / 1000), m = math.floor(now / 60000)}
  local window = {s = MINUTE_S, m = HOUR_MIN}
  local all = redis.call('HGETALL', 'spend')
  for i = 1, #all, 2 do
    local unit, at = string.match(all[i], '^([sm])(%d+)$')
    if unit and math.abs(tonumber(at) - bucket[unit]) > window[unit] then
      old[#old + 1] = all[i]
    elseif unit == 's' then
      jobs = jobs + tonumber(all[i + 1])
    elseif unit == 'm' then
      micros = micros + tonumber(all[i + 1])
    end
  end
  if old[1] then redis.call('HDEL', 'spend', unpack(old)) end
  return jobs, micros
end

local function price(per_job, per_1000, tokens)
  return math.ceil(per_job + per_1000 * tokens / 1000)
end

-- The tokens that a job may use at most: those of its input, at three bytes each, and those that it asks for, `usual` if it
-- does not say.
local function most_tokens(id, usual)
  local input = redis.call('HGET', 'job:' .. id, 'input') or ''
  local read, body = pcall(cjson.decode, input)
  local asked = read and type(body) == 'table' and tonumber(body.max_tokens)
  return math.ceil(#input / 3) + (asked or usual)
end

-- What may still be sent. ARGV[first..first+4]: jobs a minute, micros an hour, micros for a job and for a thousand tokens,
-- tokens of an answer to a job that does not say
local function open_purse(first, now)
  local jobs, micros = spent(now)
  return {jobs = tonumber(ARGV[first]) - jobs, micros = tonumber(ARGV[first + 1]) - micros, per_job = tonumber(ARGV[first + 2]),
    per_1000 = tonumber(ARGV[first + 3]), usual = tonumber(ARGV[first + 4]), tokens = 0}
end

-- Reserve what a job may cost. Returns what it is too much for: jobs or money; nil where it is reserved.
local function reserve(purse, id, now)
  local tokens = most_tokens(id, purse.usual)
  local micros = price(purse.per_job, purse.per_1000, tokens)
  if purse.jobs < 1 then return 'jobs' end
  if micros > purse.micros then return 'money' end
  purse.jobs, purse.micros, purse.tokens = purse.jobs - 1, purse.micros - micros, math.max(purse.tokens, tokens)
  redis.call('HINCRBY', 'spend', 's' .. whole(math.floor(now / 1000)), 1)
  redis.call('HINCRBY', 'spend', 'm' .. whole(math.floor(now / 60000)), micros)
  redis.call('HSET', 'spend', 'tokens', whole(purse.tokens))
  redis.call('PEXPIRE', 'spend', SPEND_KEPT_MS)
  redis.call('HSET', 'job:' .. id, 'reserved', whole(micros) .. ' ' .. whole(purse.per_job) .. ' ' .. whole(purse.per_1000))
end

-- A job leaves the cloud with nothing begun (`tokens` is nil: it gets everything back), or has used so many tokens.
local function correct_spend(id, tokens)
  local job = redis.call('HMGET', 'job:' .. id, 'reserved', 'sent_ms')
  if not job[1] then return end
  local micros, per_job, per_1000 = string.match(job[1], '^(%d+) (%d+) (%d+)$')
  local cost = tokens and price(tonumber(per_job), tonumber(per_1000), tokens) or 0
  local bucket = 'm' .. whole(math.floor(tonumber(job[2]) / 60000))
  redis.call('HDEL', 'job:' .. id, 'reserved')
  if redis.call('HEXISTS', 'spend', bucket) == 1 then redis.call('HINCRBY', 'spend', bucket, whole(cost - micros)) end
end
