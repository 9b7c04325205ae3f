-- Adds what the bucket knew of a tenant's day, once. KEYS: day   ARGV: GPU seconds, US dollars, ttl ms
if redis.call('HSETNX', KEYS[1], 'base', '1') == 0 then return 0 end
redis.call('HINCRBYFLOAT', KEYS[1], 'g', ARGV[1])
redis.call('HINCRBYFLOAT', KEYS[1], 'c', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
