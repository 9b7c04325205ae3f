-- Makes a delivery, once. KEYS: delivery   ARGV: doc, status, ttl ms, attempt 1 (empty: none yet)
if redis.call('HSETNX', KEYS[1], 'doc', ARGV[1]) == 0 then return 0 end
if ARGV[4] == '' then
  redis.call('HSET', KEYS[1], 'status', ARGV[2])
else
  redis.call('HSET', KEYS[1], 'status', ARGV[2], 'a1', ARGV[4])
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
