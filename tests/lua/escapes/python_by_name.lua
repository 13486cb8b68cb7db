-- The bridge to Python by its name, in each place where lupa or a library could have put it.
function main(env, con)
    local found = rawget(_G, "python") or package.loaded.python or package.preload.python or package.loaded.lupa
    local ok, module = pcall(require, "python")
    con:puts(found and "a global" or ok and "a module: " .. type(module) or "held")
end
