-- Add a part to a report, once; the oldest reports make room for it.
-- KEYS  investigations, investigation:<id>
-- ARGV  id, name of the part, the part, bytes that all reports may have
-- Returns 1, or 0 where the report has it already, or is none.
if redis.call('HEXISTS', KEYS[2], 'asked') == 0 or redis.call('HSETNX', KEYS[2], ARGV[2], ARGV[3]) == 0 then return 0 end
redis.call('HINCRBY', KEYS[2], 'bytes', #ARGV[3])
local total, sizes = 0, {}
for i, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  sizes[i] = {id, tonumber(redis.call('HGET', 'investigation:' .. id, 'bytes') or 0)}
  total = total + sizes[i][2]
end
for _, each in ipairs(sizes) do
  if total <= tonumber(ARGV[4]) then break end
  if each[1] ~= ARGV[1] then
    total = total - each[2]
    redis.call('ZREM', KEYS[1], each[1])
    redis.call('DEL', 'investigation:' .. each[1])
  end
end
return 1
