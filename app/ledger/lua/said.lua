-- Read what a job has said, a page at a time. ARGV: now (unused), id, attempt, position: the place after which to read;
--       then the most pieces to return
-- Returns {attempt or 0, characters it said in all, id of the job that says it, '' for this one, the pieces after the place, as far as they are kept}.
local id = ARGV[2]
local leader = redis.call('HGET', 'job:' .. id, 'follows')
if leader then id = leader end
local job = redis.call('HMGET', 'job:' .. id, 'attempt', 'said')
local total = said_by(id) or job[2] or '0'
return {job[1] or '0', total, leader or '',
  redis.call('XRANGE', 'said:' .. id, '(' .. ARGV[3] .. '-' .. ARGV[4], '+', 'COUNT', ARGV[5])}
