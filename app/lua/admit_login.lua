-- Count an attempt to log in, unless one of its limits is reached.
-- KEYS  counts of: this account from this address, this address, this account from strange addresses; addresses known to
--       the account
-- ARGV  the three limits, window (ms), address
-- Returns how long to wait (ms); 0: admitted. A refused attempt is not counted, so refusing ends with the window.
local strange = redis.call('ZSCORE', KEYS[4], ARGV[5]) == false
local counted = strange and 3 or 2
local wait_ms = 0
for i = 1, counted do
  if tonumber(redis.call('GET', KEYS[i]) or 0) >= tonumber(ARGV[i]) then
    wait_ms = math.max(wait_ms, redis.call('PTTL', KEYS[i]), 1)
  end
end
if wait_ms == 0 then
  for i = 1, counted do
    if redis.call('INCR', KEYS[i]) == 1 then
      redis.call('PEXPIRE', KEYS[i], ARGV[4])
    end
  end
end
return wait_ms
