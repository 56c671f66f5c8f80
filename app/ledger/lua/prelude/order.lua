-- The order of the waiting set: fair between flows, by self-clocked fair queueing (S. J. Golestani, INFOCOM 1994).
--
-- A flow is a tenant's jobs of one lane. Each job gets a tag when it may run: one cost after the flow's last job, or after
-- the service's virtual time, which is the tag of the job begun last, where the flow has none waiting. So a tenant's
-- thousandth job waits for the others' first ones. A lane costs ten times the one before it, divided by the tenant's
-- weight: while there is more work than the workers can do, a flow's interactive jobs run ten times as often as standard
-- ones and a hundred times as often as batch ones; and every tag is reached in the end.

local LANE_COST = {interactive = 1000000, standard = 10000000, batch = 100000000}  -- whole numbers stay exact in a score

local function cost_of(tenant, lane)
  local weight = tonumber(redis.call('HGET', 'limits:' .. tenant, 'weight') or 1)
  return math.max(math.floor(LANE_COST[lane] / weight), 1)
end

local function virtual_time(service)
  return tonumber(redis.call('HGET', 'vtime', service) or 0)
end

-- The tag that the flow's next job would get.
local function after_last(service, tenant, lane)
  local last = tonumber(redis.call('ZSCORE', 'flows:' .. service, tenant .. ':' .. lane) or 0)
  return whole(math.max(last, virtual_time(service)) + cost_of(tenant, lane))
end

-- The tag of the flow's next job.
local function next_order(service, tenant, lane)
  local order = after_last(service, tenant, lane)
  redis.call('ZADD', 'flows:' .. service, order, tenant .. ':' .. lane)
  return order
end

-- A job that had this tag begins.
local function advance(service, order)
  if tonumber(order) > virtual_time(service) then redis.call('HSET', 'vtime', service, whole(order)) end
end

-- A waiting job left without having run: its flow need not wait for it.
local function give_back(service, tenant, lane)
  local flow, key = tenant .. ':' .. lane, 'flows:' .. service
  if redis.call('ZSCORE', key, flow) then redis.call('ZINCRBY', key, -cost_of(tenant, lane), flow) end
end

-- Forget the flows that have nothing waiting: one that comes again begins at the virtual time.
local function forget_idle_flows(service)
  redis.call('ZREMRANGEBYSCORE', 'flows:' .. service, '-inf', whole(virtual_time(service)))
end
