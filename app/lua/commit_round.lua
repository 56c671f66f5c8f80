-- Write down a round of the routing task, all or nothing, if who decided it still leads.
-- KEYS: leader:routing, routing:state, routing:shadowed, routing:shown, routing:shed, routing:history, alerts, alerts:open
-- ARGV: who leads, epoch, name of the round, entries that streams keep, state, second set's or '', round as it is shown, ms to
--       show it, what is shed or '', ms to shed it, how many changes, the changes, how many events, the events, then id and
--       alert for each that is open
-- Returns 1 where it is written, also by a call that is repeated; 0 where another leads.
local leader = redis.call('HMGET', KEYS[1], 'who', 'epoch', 'round')
if leader[1] ~= ARGV[1] or leader[2] ~= ARGV[2] then return 0 end
if leader[3] == ARGV[3] then return 1 end
redis.call('HSET', KEYS[1], 'round', ARGV[3])

local function put(key, value, ms)
  if value == '' then redis.call('DEL', key)
  elseif ms then redis.call('SET', key, value, 'PX', ms)
  else redis.call('SET', key, value) end
end
put(KEYS[2], ARGV[5])
put(KEYS[3], ARGV[6])
put(KEYS[4], ARGV[7], ARGV[8])
put(KEYS[5], ARGV[9], ARGV[10])

local at = 11
local function append(stream, field)
  local last = at + tonumber(ARGV[at])
  for i = at + 1, last do redis.call('XADD', stream, 'MAXLEN', '~', ARGV[4], '*', field, ARGV[i]) end
  at = last + 1
end
append(KEYS[6], 'change')
append(KEYS[7], 'event')
redis.call('DEL', KEYS[8])
for i = at, #ARGV, 2 do redis.call('HSET', KEYS[8], ARGV[i], ARGV[i + 1]) end
return 1
