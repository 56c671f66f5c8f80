-- Cancel a live job at the caller's wish. ARGV: now, id, tenant ('' for any), idempotency key or ''
-- Returns {cancelled | ended, state} (ended: it was terminal already), {gone} or {unknown}. With the key that it was
-- accepted with, the key is free again: who asks once more gets an answer, and not the cancelled job.
local now = now_ms()
local id, tenant = ARGV[2], ARGV[3]
local job = redis.call('HMGET', 'job:' .. id, 'state', 'service', 'tenant')
if not job[1] or (tenant ~= '' and job[3] ~= tenant) then
  local owner = redis.call('GET', 'gone:' .. id)
  if owner and (tenant == '' or owner == tenant) then return {'gone'} end
  return {'unknown'}
end
if job[1] ~= 'queued' and job[1] ~= 'running' then return {'ended', job[1]} end
leave(id, job[2], job[1])
finish(id, job[2], 'cancelled', now, 'error', '{"code":"cancelled","detail":"cancelled by the caller","fault":"caller"}')
if ARGV[4] ~= '' then
  local name = 'idem:' .. job[3] .. ':' .. ARGV[4]
  local held = redis.call('GET', name)
  if held and string.match(held, '^%S+') == id then redis.call('DEL', name) end
end
top_up(job[2], now)
return {'cancelled', 'cancelled'}
