-- Grants a slot and, if wanted, picks the lane whose turn it is.
-- KEYS: epoch, slots, grants, count, waiting, marks, served, lanes
-- ARGV: capacity, in flight by RunPod's own count, holder, ttl ms, epoch age min ms,
--       for which lane (next: pick it | its number | =, its priority, ., its number: if no lane waits that may have
--       one more, and the holder is the attempt itself | '': none),
--       slots that a lane may have (0: any number), paused lanes (,1,7, or ''),
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
local wanted = ARGV[6]
local unawaited, its = string.match(wanted, '^=(%a+)%.(%d+)$')
if unawaited then wanted = its end
if wanted == 'next' and redis.call('ZCARD', KEYS[5]) == 0 then return {'empty'} end
-- A grant that came to nothing ends by itself; an attempt that nobody vouches for any more does
-- not: it is asked for, and only then freed.
for _, holder in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now)) do
  redis.call('ZREM', KEYS[3], holder)
  redis.call('HDEL', KEYS[8], holder)
end
redis.call('ZREM', KEYS[3], ARGV[3])
redis.call('HDEL', KEYS[8], ARGV[3])
local held = redis.call('ZCARD', KEYS[2]) + redis.call('ZCARD', KEYS[3])
if math.max(held, tonumber(ARGV[2])) >= tonumber(ARGV[1]) then return {'full'} end
local expires = now + tonumber(ARGV[4])
local lane_max = tonumber(ARGV[7])
local busy = {}
if lane_max > 0 then
  -- Counted anew each time from the slots that are taken, so nothing can leak.
  for k = 2, 3 do
    for _, name in ipairs(redis.call('ZRANGE', KEYS[k], 0, -1)) do
      local lane = redis.call('HGET', KEYS[8], name)
      if lane then busy[lane] = (busy[lane] or 0) + 1 end
    end
  end
end
local paused = ARGV[8]
local function may(lane)
  if paused ~= '' and string.find(paused, ',' .. lane .. ',', 1, true) then return false end
  return lane_max == 0 or (busy[lane] or 0) < lane_max
end
if unawaited then
  for _, member in ipairs(redis.call('ZRANGE', KEYS[5], 0, -1)) do
    if may(string.match(member, '%d+$')) then return {'empty'} end
  end
end
if wanted ~= 'next' then
  if wanted ~= '' then
    if not may(wanted) then return {'full'} end
    redis.call('HSET', KEYS[8], ARGV[3], wanted)
  end
  -- A turn like any other: who comes next is another lane's.
  if unawaited then redis.call('HSET', KEYS[7], unawaited, wanted) end
  redis.call('ZADD', KEYS[unawaited and 2 or 3], expires, ARGV[3])
  return {'granted'}
end
-- {priority, lane} of each lane that waits and may have one more, the longest unserved first.
local waiting = {}
for _, member in ipairs(redis.call('ZRANGE', KEYS[5], 0, -1)) do
  local priority, lane = string.match(member, '^(%a+)%.(%d+)$')
  if may(lane) then
    waiting[#waiting + 1] = {priority, tonumber(lane)}
  end
end
if #waiting == 0 then return {'empty'} end
local chosen
if redis.call('INCR', KEYS[4]) % 10 == 0 then
  chosen = waiting[1] -- of any priority: none starves
else
  for p = 9, #ARGV do
    local last = tonumber(redis.call('HGET', KEYS[7], ARGV[p]) or -1)
    local lowest, following
    for _, candidate in ipairs(waiting) do
      local lane = candidate[2]
      if candidate[1] == ARGV[p] then
        if not lowest or lane < lowest then lowest = lane end
        if lane > last and (not following or lane < following) then following = lane end
      end
    end
    if lowest then
      chosen = {ARGV[p], following or lowest}
      break
    end
  end
end
if not chosen then return {'empty'} end
local priority, lane = chosen[1], string.format('%d', chosen[2])
local member = priority .. '.' .. lane
redis.call('HSET', KEYS[7], priority, lane)
redis.call('ZADD', KEYS[5], now, member)
redis.call('ZADD', KEYS[3], expires, ARGV[3])
redis.call('HSET', KEYS[8], ARGV[3], lane)
return {'granted', priority, chosen[2], tonumber(redis.call('HGET', KEYS[6], member) or 0)}
