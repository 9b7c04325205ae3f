-- Turns a holder's grant into an attempt in flight, also when the grant has ended meanwhile: the
-- attempt is there and must be counted. It takes the holder's lane over.
-- KEYS: slots, grants, lanes   ARGV: holder, attempt, ttl ms
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local had = redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[3]), ARGV[2])
if ARGV[1] ~= ARGV[2] then
  local lane = redis.call('HGET', KEYS[3], ARGV[1])
  redis.call('HDEL', KEYS[3], ARGV[1])
  if lane then redis.call('HSET', KEYS[3], ARGV[2], lane) end
end
return had
