-- Notes an attempt of a delivery under its number; the oldest of many go. KEYS: delivery
-- ARGV: number, attempt, status, ttl ms, round ms, attempts kept at most
if redis.call('HEXISTS', KEYS[1], 'doc') == 0 then return 0 end
redis.call('HSET', KEYS[1], 'a' .. ARGV[1], ARGV[2])
redis.call('HDEL', KEYS[1], 'a' .. (tonumber(ARGV[1]) - tonumber(ARGV[6])))
local round, own = tonumber(redis.call('HGET', KEYS[1], 'round') or 0), tonumber(ARGV[5])
-- Nothing leaves `delivered` within a round.
if own > round or (own == round and redis.call('HGET', KEYS[1], 'status') ~= 'delivered') then
  redis.call('HSET', KEYS[1], 'status', ARGV[3])
end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
