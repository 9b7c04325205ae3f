-- Notes an attempt of a delivery under its number. KEYS: delivery
-- ARGV: field, attempt, status, ttl ms
if redis.call('HEXISTS', KEYS[1], 'doc') == 0 then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2], 'status', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
