-- Marks a lane as waiting. KEYS: waiting, marks   ARGV: member
local t = redis.call('TIME')
redis.call('ZADD', KEYS[1], 'NX', t[1] * 1000 + math.floor(t[2] / 1000), ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], redis.call('HINCRBY', KEYS[2], 'next', 1))
return 1
