-- One receipt of a message that turns. KEYS: turn   ARGV: turn, turn id, ttl ms
local there = redis.call('GET', KEYS[1])
local pass = true
if there then
  local turn, id = string.match(there, '^(%d+):(.*)$')
  local mine = tonumber(ARGV[1])
  pass = mine > tonumber(turn) or (mine == tonumber(turn) and id == ARGV[2])
end
if not pass then return 0 end
redis.call('SET', KEYS[1], ARGV[1] .. ':' .. ARGV[2], 'PX', ARGV[3])
return 1
