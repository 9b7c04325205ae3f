-- Puts an event into its job's log.
-- KEYS: events, pace   ARGV: sequence, json, interval ms (0: not paced), entries at most, ttl ms
-- Answers 0 when it stood there before, milliseconds to wait when another was told a moment ago, -1 when
-- a newer progress stands there, -2 when it stands there from now on.
if redis.call('ZCOUNT', KEYS[1], ARGV[1], ARGV[1]) > 0 then return 0 end
local interval = tonumber(ARGV[3])
if interval > 0 then
  if redis.call('ZCOUNT', KEYS[1], '(' .. ARGV[1], '+inf') > 0 then return -1 end
  local left = redis.call('PTTL', KEYS[2])
  if left > 0 then return left end
  redis.call('SET', KEYS[2], '1', 'PX', interval)
end
redis.call('ZADD', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - tonumber(ARGV[4]))
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return -2
