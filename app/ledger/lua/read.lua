-- Read a job as its owner sees it. ARGV: now (unused), id, tenant ('' for any)
-- Returns {found, record as a flat list, position or -1, pace ms, slots}, {gone} or {unknown}.
local id, tenant = ARGV[2], ARGV[3]
local record = redis.call('HGETALL', 'job:' .. id)
local state, service, owner
for i = 1, #record, 2 do
  if record[i] == 'state' then state = record[i + 1]
  elseif record[i] == 'service' then service = record[i + 1]
  elseif record[i] == 'tenant' then owner = record[i + 1] end
end
if not state or (tenant ~= '' and owner ~= tenant) then
  local was = redis.call('GET', 'gone:' .. id)
  if was and (tenant == '' or was == tenant) then return {'gone'} end
  return {'unknown'}
end
if state ~= 'queued' then return {'found', record, -1, '', ''} end
return {'found', record, redis.call('ZRANK', 'waiting:' .. service, id) or -1,
  redis.call('HGET', 'pace', service) or '', redis.call('HGET', 'slots', service) or ''}
