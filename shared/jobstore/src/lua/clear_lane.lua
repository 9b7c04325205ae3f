-- Clears a lane's mark unless it is newer than the one that was seen. KEYS: waiting, marks
-- ARGV: member, mark
local mark = redis.call('HGET', KEYS[2], ARGV[1])
if mark and tonumber(mark) > tonumber(ARGV[2]) then return 0 end
redis.call('HDEL', KEYS[2], ARGV[1])
return redis.call('ZREM', KEYS[1], ARGV[1])
