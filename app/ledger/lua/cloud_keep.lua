-- A job that was sent and not begun comes home, and is not sent with others any more. ARGV: now, id, decision: why, as JSON
-- Returns 1 where it is so, 0 where the job is not there or has ended or begun.
local now = now_ms()
local id = ARGV[2]
if redis.call('HGET', 'job:' .. id, 'state') ~= 'queued' then return 0 end
if redis.call('ZSCORE', 'cloud', id) then bring_home(id, now, 'kept', ARGV[3]) end
redis.call('HSET', 'job:' .. id, 'stays', '1', 'decision', ARGV[3])
return 1
