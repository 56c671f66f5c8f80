-- Say pieces of what running attempts answer, and tell those who listen.
-- ARGV: now, then id, owner, attempt, position, voice, text for each; position: the characters that the attempt
--       has said up to the end of the piece, so a piece has the id <attempt>-<position>
-- Returns 1 for each job that is still ours and 0 for each that is not (cancelled, expired, taken over): stop those.
-- A piece that is there already is not said again: the call was made before and its reply was lost.
-- When the attempt says its first word is noted in the job.
local held, fresh = {}, {}
for i = 2, #ARGV, 6 do
  local id, place = ARGV[i], ARGV[i + 2] .. '-' .. ARGV[i + 3]
  local job = redis.call('HMGET', 'job:' .. id, 'state', 'owner', 'attempt', 'first_ms', 'parent')
  if job[1] == 'running' and job[2] == ARGV[i + 1] and job[3] == ARGV[i + 2] then
    held[#held + 1] = 1
    if not redis.call('XREVRANGE', 'said:' .. id, '+', place, 'COUNT', 1)[1] then
      redis.call('XADD', 'said:' .. id, place, ARGV[i + 4], ARGV[i + 5])
      fresh[#fresh + 1] = {id, ARGV[i + 2], ARGV[i + 3], ARGV[i + 4], ARGV[i + 5]}
      if not job[4] and ARGV[i + 5] ~= '' then note_first(id, job[5], now_ms()) end
    end
  else
    held[#held + 1] = 0
  end
end
if fresh[1] then redis.call('PUBLISH', 'said', cmsgpack.pack(fresh)) end
return held
