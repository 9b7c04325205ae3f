-- Turns a holder's grant into an attempt in flight, also when the grant has ended meanwhile: the
-- attempt is there and must be counted. KEYS: slots, grants   ARGV: holder, attempt, ttl ms
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local had = redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[3]), ARGV[2])
return had
