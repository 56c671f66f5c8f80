-- Shared by every script of the ledger. Python puts the files of this folder, in the order of `scripts.PRELUDE`, in front of
-- each script when it loads them.
--
-- Keys (one Redis, not a cluster: a script touches the sets of a service and the records of several jobs):
--   job:<id>            HASH    the record
--   waiting:<service>   ZSET    every queued job that may run now, by order (see order.lua); woken + backlog
--   woken:<service>     ZSET    those with a wake-up in the Celery queue, by the time it was pushed
--   backlog:<service>   ZSET    those without, by order
--   delayed             ZSET    queued jobs that may not run yet, by the time they may
--   held                ZSET    queued jobs that wait for another: for their turn in a line, or for the answer of a job that
--                               asks the same; by the time they were accepted
--   cloud               ZSET    queued jobs that were sent to the cloud and are not begun there, by the time they come
--                               home
--   leases              ZSET    every running job, here or in the cloud, by the end of its lease
--   deadlines           ZSET    live jobs with a deadline, by the deadline
--   finished            ZSET    every ended job that is still kept, by the time it ended
--   flows:<service>     ZSET    <tenant>:<lane>, by the order of the last job accepted of them
--   vtime               HASH    service -> order of the job begun last: the service's virtual time
--   line:<name>         LIST    the live jobs of a line; the first may run, the others are held
--   flight:<fingerprint> STRING id of the live job that answers this request
--   followers:<id>      ZSET    jobs held for the answer of this one, by the time they were accepted
--   jobs:<tenant>       ZSET    the tenant's own jobs (none that a job submitted), by the time they were accepted
--   limits:<tenant>     HASH    what an operator set: weight, requests_per_minute, tokens_per_minute, jobs_in_flight
--   rate:<tenant>       HASH    what is left of the limits by the minute (see limits.lua)
--   inflight            HASH    tenant -> its own live jobs
--   idem:<tenant>:<key> STRING  "<id> <digest>"
--   gone:<id>           STRING  tenant of a job past retention
--   counts              HASH    accepted, succeeded, failed, cancelled, expired, and what else happened
--   windows, slots      HASH    service -> wake-ups to keep in its queue; slots of its live workers
--   pace                HASH    service -> smoothed run time in ms, at home; cloud -> of the jobs that ran there
--   served              HASH    service -> jobs whose attempt at home was settled
--   spend               HASH    what the cloud costs (see spend.lua): s<second> -> jobs sent, m<minute> -> micros of money,
--                               reserved or spent; tokens: that one of those sent last may use
--   taken:<owner>       STRING  id of the job that a take gave this owner, for a call that is repeated
--   sent:<ticket>       LIST    ids of the jobs that a send sent, and recalled:<call> of those that a recall brought home,
--                               for a call that is repeated
--   void                STREAM  tickets and runs in the cloud that count no more: id, void, worker ('' for a ticket that
--                               nobody is known to have used); an entry goes when the cloud has been told
--   unsaid:<id>         HASH    what a run in the cloud said, where what comes before it has not arrived: start -> end,
--                               voice, text
--   parts:<id>          HASH    the parts of a run's end that have arrived: number -> text
--   announcements       STREAM  the end of each job, for those who wait for it
--   events:<tenant>     STREAM  what happens to the tenant's own jobs: id, event, service, attempt
--   hooks               STREAM  the end of each job that has a webhook: id, tenant, state
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
local EVENTS_KEPT, EVENTS_KEPT_S = 20000, 86400
-- How long what a job said is kept after its end. A success has it all in its result; of another end nothing else is left.
local SAID_KEPT_MS, SAID_KEPT_OF_SUCCESS_MS = 3600000, 60000

local function now_ms()
  if ARGV[1] ~= '' then return tonumber(ARGV[1]) end
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

local function whole(number)
  return string.format('%d', number)
end

local function count(name, by)
  redis.call('HINCRBY', 'counts', name, by or 1)
end

-- Tell what happened to a job in its tenant's stream.
local function tell(tenant, id, event, service, attempt)
  redis.call('XADD', 'events:' .. tenant, 'MAXLEN', '~', EVENTS_KEPT, '*', 'id', id, 'event', event, 'service', service,
    'attempt', attempt)
  if event ~= 'started' then redis.call('EXPIRE', 'events:' .. tenant, EVENTS_KEPT_S) end
end
