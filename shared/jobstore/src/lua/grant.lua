-- Grants a slot and, if wanted, picks the lane whose turn it is.
-- KEYS: epoch, slots, grants, count, waiting, marks, served
-- ARGV: capacity, in flight by RunPod's own count, holder, ttl ms, epoch age min ms, pick (0|1),
--       then the priorities, most urgent first
-- Answers {'young' | 'full' | 'empty' | 'granted' [, priority, lane, mark]}.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local epoch = redis.call('GET', KEYS[1])
if not epoch then
  redis.call('SET', KEYS[1], now)
  epoch = now
end
if now - tonumber(epoch) < tonumber(ARGV[5]) then return {'young'} end
-- A grant that came to nothing ends by itself; an attempt that nobody vouches for any more does
-- not: it is asked for, and only then freed.
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now)
redis.call('ZREM', KEYS[3], ARGV[3])
local held = redis.call('ZCARD', KEYS[2]) + redis.call('ZCARD', KEYS[3])
if math.max(held, tonumber(ARGV[2])) >= tonumber(ARGV[1]) then return {'full'} end
local expires = now + tonumber(ARGV[4])
if ARGV[6] == '0' then
  redis.call('ZADD', KEYS[3], expires, ARGV[3])
  return {'granted'}
end
local waiting = redis.call('ZRANGE', KEYS[5], 0, -1)
if #waiting == 0 then return {'empty'} end
local chosen
if redis.call('INCR', KEYS[4]) % 10 == 0 then
  chosen = waiting[1] -- the longest unserved, of any priority: none starves
else
  for p = 7, #ARGV do
    local last = tonumber(redis.call('HGET', KEYS[7], ARGV[p]) or -1)
    local lowest, following
    for _, member in ipairs(waiting) do
      local priority, lane = string.match(member, '^(%a+)%.(%d+)$')
      if priority == ARGV[p] then
        lane = tonumber(lane)
        if not lowest or lane < lowest then lowest = lane end
        if lane > last and (not following or lane < following) then following = lane end
      end
    end
    if lowest then
      chosen = ARGV[p] .. '.' .. string.format('%d', following or lowest)
      break
    end
  end
end
if not chosen then return {'empty'} end
local priority, lane = string.match(chosen, '^(%a+)%.(%d+)$')
redis.call('HSET', KEYS[7], priority, lane)
redis.call('ZADD', KEYS[5], now, chosen)
redis.call('ZADD', KEYS[3], expires, ARGV[3])
return {'granted', priority, tonumber(lane), tonumber(redis.call('HGET', KEYS[6], chosen) or 0)}
