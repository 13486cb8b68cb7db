-- An answer for programs: a JSON object, and 404 as JSON too. Try /json.lua?id=2

local fcgi = require "luafcgid"
local json = require "greenfcgi.json"

local planets = {
    { id = 1, name = "Mercury", moons = 0 },
    { id = 2, name = "Venus", moons = 0 },
    { id = 3, name = "Earth", moons = 1 },
    { id = 4, name = "Mars", moons = 2 },
}

function main(env, con)
    con:header("Content-Type", "application/json")
    local id = fcgi.parse(env.QUERY_STRING).id
    if not id then
        con:puts(json.encode(planets))
    elseif planets[tonumber(id)] then
        con:puts(json.encode(planets[tonumber(id)]))
    else
        con:status(404)
        con:puts(json.encode({ error = "no planet has the id " .. tostring(id) }))
    end
end
