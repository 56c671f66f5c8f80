-- How much of the caps is left. ARGV: now, service whose jobs are sent, five figures of the purse
-- Returns jobs of the last minute, micros of the last hour, and micros that a job costs at most: the dearest of those sent
-- last, or, before any was sent, the one that would be sent next; 0 where there is none.
local now = now_ms()
local jobs, micros = spent(now)
local tokens = redis.call('HGET', 'spend', 'tokens')
if not tokens then
  local last = redis.call('ZREVRANGE', 'waiting:' .. ARGV[2], 0, 0)[1]
  tokens = last and most_tokens(last, tonumber(ARGV[7]))
end
return {jobs, micros, tokens and price(tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(tokens)) or 0}
