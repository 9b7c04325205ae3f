-- A copy, if it was read a moment ago. KEYS: copy   ARGV: age max ms
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local copy = redis.call('HMGET', KEYS[1], 'v', 'j', 'at')
if not copy[1] or now - tonumber(copy[3]) >= tonumber(ARGV[1]) then return {} end
return {copy[1], copy[2]}
