-- The limits of a tenant: requests and tokens by the minute, each a bucket that fills evenly, and jobs in flight. What an
-- operator set for the tenant comes before the defaults; '' or 0 is no limit.
--
-- A request takes the most tokens that it may cost; when it has ended, what it did not use goes back.

local BY_THE_MINUTE = {'requests', 'tokens'}

local function limits_of(tenant, defaults)
  local own = redis.call('HMGET', 'limits:' .. tenant, 'requests_per_minute', 'tokens_per_minute', 'jobs_in_flight')
  local limits = {}
  for i, name in ipairs({'requests', 'tokens', 'jobs'}) do
    local limit = tonumber(own[i] or defaults[i]) or 0
    if limit > 0 then limits[name] = limit end
  end
  return limits
end

-- How full a bucket is now.
local function level(tenant, name, limit, now)
  local was = redis.call('HMGET', 'rate:' .. tenant, name, name .. '_ms')
  if not was[1] then return limit end
  return math.min(limit, tonumber(was[1]) + math.max(now - tonumber(was[2]), 0) * limit / 60000)
end

-- Take what a request costs, all or nothing. Returns the limits' figures, flat: name, limit, what is left, and ms until it
-- is whole again; and, where there is too little, the name of what there is too little of, and ms until there is enough.
local function admit(tenant, now, defaults, tokens)
  local limits, figures, levels = limits_of(tenant, defaults), {}, {}
  local short, wait_ms
  local function figure(name, limit, left, whole_ms)
    for _, value in ipairs({name, whole(limit), whole(math.max(math.floor(left), 0)), whole(math.ceil(whole_ms))}) do
      figures[#figures + 1] = value
    end
  end
  for _, name in ipairs(BY_THE_MINUTE) do
    local limit = limits[name]
    if limit then
      local full, cost = level(tenant, name, limit, now), name == 'requests' and 1 or math.min(tokens, limit)
      if full < cost and not short then short, wait_ms = name, math.ceil((cost - full) * 60000 / limit) end
      levels[name] = {full, cost}
    end
  end
  local live = limits.jobs and tonumber(redis.call('HGET', 'inflight', tenant) or 0)
  if limits.jobs and live >= limits.jobs and not short then short, wait_ms = 'jobs', 1000 end
  for _, name in ipairs(BY_THE_MINUTE) do
    if levels[name] then
      local left = levels[name][1] - (short and 0 or levels[name][2])
      if not short then
        redis.call('HSET', 'rate:' .. tenant, name, string.format('%.6f', left), name .. '_ms', whole(now))
        redis.call('PEXPIRE', 'rate:' .. tenant, 60000)  -- by then it is whole
      end
      figure(name, limits[name], left, (limits[name] - left) * 60000 / limits[name])
    end
  end
  if limits.jobs then figure('jobs', limits.jobs, limits.jobs - live - (short and 0 or 1), 1000) end
  return figures, short, wait_ms, levels.tokens and levels.tokens[2] or 0
end

-- A job that took tokens has ended: give back what it did not use. It may have used nothing (`used` is 0), or it may not be
-- known what (nil).
local function settle_tokens(tenant, took, used)
  if not used or not redis.call('HGET', 'rate:' .. tenant, 'tokens') then return end
  redis.call('HINCRBYFLOAT', 'rate:' .. tenant, 'tokens', tonumber(took) - used)
end

-- One of the tenant's own jobs has ended.
local function land(tenant)
  if redis.call('HINCRBY', 'inflight', tenant, -1) <= 0 then redis.call('HDEL', 'inflight', tenant) end
end
