-- Jobs that are sent to the cloud, and come home.
--
-- A job that is sent leaves the waiting set and gets a ticket, which is the right to begin it out there. Who holds the
-- ticket cannot be asked to give it back, so each way out of the cloud makes it void here, at once, and says so on the
-- stream `void`, for those out there whom it may still save some work.

local VOIDS_KEPT = 20000
local MOVES_KEPT = 32  -- of a job, the newest: one that goes back and forth so often is no story any more

-- Note that a job moves between here and the cloud, and why (JSON, an object), with `more` members of it.
local function note_move(id, move, now, why, more)
  local before = redis.call('HGET', 'job:' .. id, 'moves')
  why = string.gsub(why, '\n', ' ')
  if more then why = string.gsub(why, '}%s*$', '') .. (string.match(why, '^%s*{%s*}%s*$') and '' or ',') .. more .. '}' end
  local line = '{"at_ms":' .. whole(now) .. ',"move":"' .. move .. '","why":' .. why .. '}'
  if before then
    local _, breaks = string.gsub(before, '\n', '')
    if breaks >= MOVES_KEPT - 1 then before = string.match(before, '\n(.*)') end
    line = before .. '\n' .. line
  end
  redis.call('HSET', 'job:' .. id, 'moves', line)
end

-- A waiting job is sent, out of the purse, if it has enough. Its flow need not wait for it, as when it leaves for good.
-- Returns what it was too much for, or nil.
local function send_away(id, service, ticket, decision, until_ms, purse, now)
  local lacking = reserve(purse, id, now)
  if lacking then return lacking end
  local key = 'job:' .. id
  local job = redis.call('HMGET', key, 'tenant', 'lane', 'worker', 'created_ms')
  local rank = redis.call('ZRANK', 'waiting:' .. service, id)
  if not job[3] then give_back(service, job[1], job[2]) end
  withdraw(id, service)
  redis.call('HSET', key, 'route', 'cloud', 'ticket', ticket, 'sent_ms', whole(now), 'decision', decision)
  redis.call('ZADD', 'cloud', until_ms, id)
  note_move(id, 'sent', now, decision,
    '"position":' .. rank .. ',"waited_s":' .. string.format('%.3f', (now - tonumber(job[4])) / 1000))
  count('sent')
end

-- A ticket that no worker is known to have used (worker is ''), or a worker's run, is void.
local function make_void(id, void, worker)
  redis.call('XADD', 'void', 'MAXLEN', '~', VOIDS_KEPT, '*', 'id', id, 'void', void, 'worker', worker)
end

-- A run out there is over by another's wish: nothing that it still says counts.
local function end_run(id, run, worker)
  make_void(id, run, worker)
  forget_run(id)
end

-- A job is to run at home again: it was recalled, kept here or returned, or has lapsed. Why it was sent is not why it goes
-- where it goes now.
local function keep_home(id, move, now, why)
  redis.call('HSET', 'job:' .. id, 'route', 'local', 'decision', why)
  note_move(id, move, now, why)
  count(move)
  count('came_home')
end

-- A job that was sent and not begun comes home, to the place that it had. Its flow pays for it again, if it got back what
-- it had paid.
local function bring_home(id, now, move, why)
  local job = redis.call('HMGET', 'job:' .. id, 'service', 'order', 'ticket', 'tenant', 'lane', 'worker')
  redis.call('ZREM', 'cloud', id)
  correct_spend(id)
  end_run(id, job[3], '')
  keep_home(id, move, now, why)
  if not job[6] then next_order(job[1], job[4], job[5]) end
  enqueue(job[1], id, job[2], now)
end

-- A live job leaves where it is, to be ended by another than its worker.
local function leave(id, service, state)
  local job = redis.call('HMGET', 'job:' .. id, 'route', 'ticket', 'owner', 'worker')
  local running = state == 'running'
  if job[1] ~= 'cloud' then
    if running then stop_worker(id) else leave_queue(id, service) end
    return
  end
  redis.call('ZREM', running and 'leases' or 'cloud', id)
  redis.call('ZREM', 'deadlines', id)
  if not running then correct_spend(id) end
  if running then end_run(id, job[3], job[4]) else end_run(id, job[2], '') end
end
