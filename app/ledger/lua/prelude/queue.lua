-- The waiting set of a service, and its Celery queue, which is kept short: it holds wake-ups for the first of those waiting.

-- The wake-up: a Celery task message (protocol 2) in kombu's Redis envelope. It carries the id and nothing else.
local function wakeup(service, id, pushed_ms)
  local task = redis.call('HGET', 'job:' .. id, 'task')
  return WAKEUP_1 .. task .. WAKEUP_2 .. id .. WAKEUP_3 .. id .. WAKEUP_4 .. id .. WAKEUP_5 .. service .. WAKEUP_6
    .. id .. '.' .. whole(pushed_ms) .. WAKEUP_7
end

local function wake(service, id, now)
  redis.call('LPUSH', service, wakeup(service, id, now))
  redis.call('ZADD', 'woken:' .. service, now, id)
end

-- Keep the Celery queue short and full: wake the first of the backlog while there is room in the window.
local function top_up(service, now)
  local window = tonumber(redis.call('HGET', 'windows', service) or DEFAULT_WINDOW)
  local room = window - redis.call('ZCARD', 'woken:' .. service)
  if room <= 0 then return 0 end
  local first = redis.call('ZPOPMIN', 'backlog:' .. service, room)
  for i = 1, #first, 2 do wake(service, first[i], now) end
  return #first / 2
end

-- Of the woken jobs: the one to run last, with its order, and the first of those to run after this order.
local function around(service, order)
  local woken = redis.call('ZRANGE', 'woken:' .. service, 0, -1)
  local orders = redis.call('ZMSCORE', 'waiting:' .. service, unpack(woken))
  local last, last_order, next_one, next_order
  for i, id in ipairs(woken) do
    local its = tonumber(orders[i] or 0)
    if not last or its > last_order then last, last_order = id, its end
    if its > order and (not next_one or its < next_order) then next_one, next_order = id, its end
  end
  return last, last_order, next_one
end

-- The window is full, and a job came that is to run before some of those woken: it gets the last one's place in the window,
-- and its own place in the queue, whose next element is at the right end.
local function overtake(service, id, order, now)
  local last, last_order, next_one = around(service, order)
  if not next_one then return end
  local mine, pushed_ms = wakeup(service, id, now), redis.call('ZSCORE', 'woken:' .. service, next_one)
  if redis.call('LINSERT', service, 'AFTER', wakeup(service, next_one, tonumber(pushed_ms)), mine) <= 0 then
    redis.call('RPUSH', service, mine)  -- the next one's has just been taken
  end
  redis.call('ZREM', 'backlog:' .. service, id)
  redis.call('ZADD', 'woken:' .. service, now, id)
  pushed_ms = redis.call('ZSCORE', 'woken:' .. service, last)
  if redis.call('LREM', service, 1, wakeup(service, last, tonumber(pushed_ms))) > 0 then
    redis.call('ZREM', 'woken:' .. service, last)
    redis.call('ZADD', 'backlog:' .. service, whole(last_order), last)
  end
end

-- Put a queued job where claims can find it. Returns how many are to run before it.
local function enqueue(service, id, order, now)
  redis.call('ZADD', 'waiting:' .. service, order, id)
  redis.call('ZADD', 'backlog:' .. service, order, id)
  top_up(service, now)
  local rank = redis.call('ZRANK', 'waiting:' .. service, id)
  if rank < redis.call('ZCARD', 'woken:' .. service) and redis.call('ZSCORE', 'backlog:' .. service, id) then
    overtake(service, id, tonumber(order), now)
  end
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
