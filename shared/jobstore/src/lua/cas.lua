-- Replaces a field of a hash if it is the expected one ('' : none). KEYS: the hash
-- ARGV: field, expected, new, ttl ms   Answers {1} or {0, current or nil}.
local current = redis.call('HGET', KEYS[1], ARGV[1])
if (current or '') ~= ARGV[2] then return {0, current} end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return {1}
