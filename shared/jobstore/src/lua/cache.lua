-- Keeps a copy if it is as new as the one there. KEYS: copy   ARGV: version, json, ttl ms
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local there = redis.call('HGET', KEYS[1], 'v')
if there and tonumber(there) > tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'v', ARGV[1], 'j', ARGV[2], 'at', now)
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
