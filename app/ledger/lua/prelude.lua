-- Shared by every script of the ledger. Python puts this text in front of each script when it loads them.
--
-- Keys (one Redis, not a cluster: a script touches the sets of a service and the records of several jobs):
--   job:<id>            HASH    the record
--   waiting:<service>   ZSET    every queued job that may run now, by order (lane, then age); woken + backlog
--   woken:<service>     ZSET    those with a wake-up in the Celery queue, by the time it was pushed
--   backlog:<service>   ZSET    those without, by order
--   delayed             ZSET    queued jobs that may not run yet, by the time they may
--   leases              ZSET    every running job, by the end of its lease
--   deadlines           ZSET    live jobs with a deadline, by the deadline
--   finished            ZSET    every ended job that is still kept, by the time it ended
--   idem:<tenant>:<key> STRING  "<id> <digest>"
--   gone:<id>           STRING  tenant of a job past retention
--   counts              HASH    accepted, succeeded, failed, cancelled, expired, and what recovery had to do
--   windows, slots      HASH    service -> wake-ups to keep in its queue; slots of its live workers
--   pace                HASH    service -> smoothed run time in ms
--   taken:<owner>       STRING  id of the job that a take gave this owner, for a call that is repeated
--   announcements       STREAM  the end of each job, for those who wait for it
--   said:<id>           STREAM  what the job's last attempt says, by <attempt>-<characters said so far>; kept for a while
--                               after the job has ended, when the record has how many they were (field said)
--   <service>           LIST    the Celery queue (kombu's own key)
-- Channels:
--   said                what all jobs say, as it comes: a list of {id, attempt, position, voice, text} in msgpack
--   stopped:<worker>    "<id> <owner>" of an attempt of that worker that ended by another's wish
--
-- ARGV[1] of every script is the time in ms, or '' for Redis's own clock: one clock, whatever the servers' clocks say.
-- Every script is safe to send twice: redis-py repeats a call whose reply was lost.

local DEFAULT_WINDOW = 8
local ANNOUNCEMENTS_KEPT = 20000
-- How long what a job said is kept after its end. A success has it all in its result; of another end nothing else is left.
local SAID_KEPT_MS, SAID_KEPT_OF_SUCCESS_MS = 3600000, 60000

local function now_ms()
  if ARGV[1] ~= '' then return tonumber(ARGV[1]) end
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

local function count(name, by)
  redis.call('HINCRBY', 'counts', name, by or 1)
end

-- The wake-up: a Celery task message (protocol 2) in kombu's Redis envelope. It carries the id and nothing else.
local function wakeup(service, id, pushed_ms)
  local task = redis.call('HGET', 'job:' .. id, 'task')
  return WAKEUP_1 .. task .. WAKEUP_2 .. id .. WAKEUP_3 .. id .. WAKEUP_4 .. id .. WAKEUP_5 .. service .. WAKEUP_6
    .. id .. '.' .. string.format('%d', pushed_ms) .. WAKEUP_7
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

-- Put a queued job where claims can find it.
local function enqueue(service, id, order, now)
  redis.call('ZADD', 'waiting:' .. service, order, id)
  redis.call('ZADD', 'backlog:' .. service, order, id)
  top_up(service, now)
end

local function dequeue(service, id)
  redis.call('ZREM', 'waiting:' .. service, id)
  if redis.call('ZREM', 'woken:' .. service, id) == 0 then redis.call('ZREM', 'backlog:' .. service, id) end
end

-- How many characters the job's last attempt has said, or nil where it has said nothing, or too long ago.
local function said_by(id)
  local last = redis.call('XREVRANGE', 'said:' .. id, '+', '-', 'COUNT', 1)[1]
  return last and string.match(last[1], '%d+$')
end

-- The one way into a terminal state. Callers have checked that the job is live.
local function finish(id, service, state, now, ...)
  local key = 'job:' .. id
  redis.call('HSET', key, 'state', state, 'finished_ms', string.format('%d', now), ...)
  redis.call('HINCRBY', key, 'recorded', 1)
  if service == 'auth' then redis.call('HDEL', key, 'input') end  -- holds a sealed password
  redis.call('ZADD', 'finished', now, id)
  local kept_ms = state == 'succeeded' and SAID_KEPT_OF_SUCCESS_MS or SAID_KEPT_MS
  if redis.call('PEXPIRE', 'said:' .. id, kept_ms) == 1 then redis.call('HSET', key, 'said', said_by(id)) end
  count(state)
  redis.call('XADD', 'announcements', 'MAXLEN', '~', ANNOUNCEMENTS_KEPT, '*', 'id', id, 'state', state)
end

-- Out of the waiting set by another way than a worker's answer to the wake-up, so the wake-up goes too: nobody else would
-- clear the queue of it. The oldest is at the right end.
local function withdraw(id, service)
  local pushed_ms = redis.call('ZSCORE', 'woken:' .. service, id)
  if pushed_ms then redis.call('LREM', service, -1, wakeup(service, id, tonumber(pushed_ms))) end
  dequeue(service, id)
end

local function leave_queue(id, service)
  withdraw(id, service)
  redis.call('ZREM', 'delayed', id)
  redis.call('ZREM', 'deadlines', id)
end

local function leave_worker(id)
  redis.call('ZREM', 'leases', id)
  redis.call('ZREM', 'deadlines', id)
  redis.call('HDEL', 'job:' .. id, 'owner')
end

-- Out of a worker's hands by another's wish: tell it, so that it stops at once and not with its next beat.
local function stop_worker(id)
  local job = redis.call('HMGET', 'job:' .. id, 'worker', 'owner')
  redis.call('PUBLISH', 'stopped:' .. job[1], id .. ' ' .. job[2])
  leave_worker(id)
end

-- End a live job whose deadline has passed: never started = expired, else cancelled.
local function finish_late(id, service, state, attempt, now)
  if state == 'running' then stop_worker(id) else leave_queue(id, service) end
  local started = attempt ~= '0'
  finish(id, service, started and 'cancelled' or 'expired', now, 'error', cjson.encode({code = 'deadline-passed',
    fault = 'caller', detail = started and 'the deadline passed while the job was being worked on'
      or 'the deadline passed before a worker was free'}))
  top_up(service, now)
end

-- The next attempt at a waiting job begins, under a lease. Called by claim and take, which have the same
-- ARGV[3..8]: owner, lease ms, worker, server, processor, decision.
local function begin(id, now)
  local key = 'job:' .. id
  if redis.call('HINCRBY', key, 'attempt', 1) > 1 then redis.call('DEL', 'said:' .. id) end
  redis.call('HSET', key, 'state', 'running', 'owner', ARGV[3], 'worker', ARGV[5], 'server', ARGV[6], 'processor', ARGV[7],
    'decision', ARGV[8], 'started_ms', string.format('%d', now))
  redis.call('ZADD', 'leases', now + tonumber(ARGV[4]), id)
end

-- What a worker gets with a job that is now its own.
local function claimed(id)
  local got = redis.call('HMGET', 'job:' .. id, 'attempt', 'errors', 'task', 'tenant', 'input', 'created_ms', 'deadline_ms',
    'trace')
  return {'claimed', id, got[1], got[2] or '0', got[3], got[4], got[5] or '{}', got[6], got[7] or '', got[8] or ''}
end
