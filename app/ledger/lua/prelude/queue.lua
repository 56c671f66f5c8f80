-- The waiting set of a service, and its Celery queue, which is kept short: it holds wake-ups for the first of those waiting.

-- The wake-up: a Celery task message (protocol 2) in kombu's Redis envelope. It carries the id and nothing else.
local function wakeup(service, id, pushed_ms)
  local task = redis.call('HGET', 'job:' .. id, 'task')
  return WAKEUP_1 .. task .. WAKEUP_2 .. id .. WAKEUP_3 .. id .. WAKEUP_4 .. id .. WAKEUP_5 .. service .. WAKEUP_6
    .. id .. '.' .. whole(pushed_ms) .. WAKEUP_7
end

-- Put the wake-up of a job into the queue, whose next element is at the right end: before those of the woken jobs that are
-- to run after it. Those whose wake-up a worker has just popped are not there any more.
local function insert(service, id, order, message)
  local woken, later = redis.call('ZRANGE', 'woken:' .. service, 0, -1, 'WITHSCORES'), {}
  for i = 1, #woken, 2 do
    local its = tonumber(redis.call('ZSCORE', 'waiting:' .. service, woken[i]) or 0)
    if its > order or its == order and woken[i] > id then later[#later + 1] = {its, woken[i], tonumber(woken[i + 1])} end
  end
  table.sort(later, function(a, b) return a[1] < b[1] or a[1] == b[1] and a[2] < b[2] end)
  for _, job in ipairs(later) do
    if redis.call('LINSERT', service, 'AFTER', wakeup(service, job[2], job[3]), message) > 0 then return end
  end
  redis.call('LPUSH', service, message)
end

-- The job that was pushed out of the window, if any, gives its wake-up back, unless a worker has just popped it.
local function put_back(service, window)
  local last = redis.call('ZRANGE', 'waiting:' .. service, window, window, 'WITHSCORES')
  local pushed_ms = last[1] and redis.call('ZSCORE', 'woken:' .. service, last[1])
  if pushed_ms and redis.call('LREM', service, 1, wakeup(service, last[1], tonumber(pushed_ms))) > 0 then
    redis.call('ZREM', 'woken:' .. service, last[1])
    redis.call('ZADD', 'backlog:' .. service, last[2], last[1])
  end
end

local function window_of(service)
  return tonumber(redis.call('HGET', 'windows', service) or DEFAULT_WINDOW)
end

-- Keep the Celery queue short, full and in order: the first of those waiting have their wake-ups, as far as the window
-- reaches, and no other but such as have been popped. Returns how many were woken.
local function top_up(service, now)
  local window, woken = nil, 0
  while true do
    local first = redis.call('ZRANGE', 'backlog:' .. service, 0, 0, 'WITHSCORES')
    local id, order = first[1], tonumber(first[2])
    if not id then return woken end
    window = window or window_of(service)
    local rank = redis.call('ZRANK', 'waiting:' .. service, id)
    if rank >= window then return woken end
    local message = wakeup(service, id, now)
    -- all who are to run before it are woken: if there are no more than these, it is the last
    if rank == redis.call('ZCARD', 'woken:' .. service) then
      redis.call('LPUSH', service, message)
    else
      insert(service, id, order, message)
      put_back(service, window)
    end
    redis.call('ZREM', 'backlog:' .. service, id)
    redis.call('ZADD', 'woken:' .. service, now, id)
    woken = woken + 1
  end
end

-- Put a queued job where claims can find it. Returns how many are to run before it.
local function enqueue(service, id, order, now)
  redis.call('ZADD', 'waiting:' .. service, order, id)
  redis.call('ZADD', 'backlog:' .. service, order, id)
  local rank = redis.call('ZRANK', 'waiting:' .. service, id)
  if rank < window_of(service) then top_up(service, now) end
  return rank
end

-- Give a queued job that may run now its order, and put it there.
local function line_up(service, id, tenant, lane, now)
  local order = next_order(service, tenant, lane)
  redis.call('HSET', 'job:' .. id, 'order', order)
  return enqueue(service, id, order, now)
end

local function dequeue(service, id)
  redis.call('ZREM', 'waiting:' .. service, id)
  if redis.call('ZREM', 'woken:' .. service, id) == 0 then redis.call('ZREM', 'backlog:' .. service, id) end
end

-- Out of the waiting set by another way than a worker's answer to the wake-up, so the wake-up goes too: nobody else would
-- clear the queue of it. The oldest is at the right end.
local function withdraw(id, service)
  local pushed_ms = redis.call('ZSCORE', 'woken:' .. service, id)
  if pushed_ms then redis.call('LREM', service, -1, wakeup(service, id, tonumber(pushed_ms))) end
  dequeue(service, id)
end
