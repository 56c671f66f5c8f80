-- How a job begins to speak.

-- An attempt says its first word: note when, in the job, and in the chat whose part the job is.
local function note_first(id, parent, now)
  redis.call('HSET', 'job:' .. id, 'first_ms', whole(now))
  if parent and redis.call('HGET', 'job:' .. parent, 'state') == 'running' then
    redis.call('HSET', 'job:' .. parent, 'first_ms', whole(now))
  end
end
