-- An admitted attempt told its caller nothing, or it succeeded: it does not count.
-- KEYS  as of admit_login
-- ARGV  'unanswered' or 'succeeded', address, how long the account knows an address (ms), how many it knows
local strange = redis.call('ZSCORE', KEYS[4], ARGV[2]) == false
for i = 1, strange and 3 or 2 do
  if tonumber(redis.call('GET', KEYS[i]) or 0) > 0 then
    redis.call('DECR', KEYS[i])
  end
end
if ARGV[1] == 'succeeded' then
  redis.call('DEL', KEYS[1], KEYS[3])
  local now = redis.call('TIME')
  local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
  redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', now_ms - ARGV[3])
  redis.call('ZADD', KEYS[4], now_ms, ARGV[2])
  redis.call('ZREMRANGEBYRANK', KEYS[4], 0, -1 - ARGV[4])
  redis.call('PEXPIRE', KEYS[4], ARGV[3])
end
return 1
